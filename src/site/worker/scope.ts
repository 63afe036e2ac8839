/** What a service worker has around it, as far as it is used here: TypeScript knows either workers or documents. */
export interface Extendable extends Event {
  waitUntil(work: Promise<unknown>): void;
}

export interface FetchEvent extends Extendable {
  readonly request: Request;
  /** Of who asks; "" for a navigation. */
  readonly clientId: string;
  respondWith(response: Response | Promise<Response>): void;
}

export interface Client {
  readonly id: string;
  readonly url: string;
  postMessage(message: unknown, transfer?: readonly Transferable[]): void;
}

export interface ClientEvent<T> extends Extendable {
  readonly data: T;
  readonly ports: readonly MessagePort[];
  readonly source: Client | null;
}

export interface WorkerScope {
  readonly location: Pick<Location, "origin" | "protocol" | "host">;
  readonly clients: {
    get(id: string): Promise<Client | undefined>;
    matchAll(options: { readonly includeUncontrolled: boolean; readonly type: "window" }): Promise<Client[]>;
    claim(): Promise<void>;
  };
  skipWaiting(): Promise<void>;
  addEventListener(type: "install" | "activate", listener: (event: Extendable) => void): void;
  addEventListener(type: "fetch", listener: (event: FetchEvent) => void): void;
  addEventListener<T>(type: "message", listener: (event: ClientEvent<T>) => void): void;
}
