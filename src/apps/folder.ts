/**
 * The directories that are being received: a path from the target's root to where the sender is, and those behind it in which
 * something is still on its way. A directory gets its attributes when all in it is settled.
 */
import { DcpipeError } from "../errors.ts";
import type { Attributes, TargetDirectory } from "./endpoints.ts";
import { NameSet } from "./names.ts";

export class Folder {
  /** The entry's id; undefined for the root. */
  readonly id: number | undefined;
  readonly parent: Folder | undefined;
  /** Components with slashes behind each; "" for the root. */
  readonly path: string;
  readonly depth: number;
  readonly attributes: Attributes;
  /** Nothing in it is taken: it was refused, passed over, or could not be made. */
  closed = false;
  /** Its name here; another one than the sender's after a conflict. */
  name: string;
  readonly #names = new Map<boolean, NameSet>();
  #target: Promise<TargetDirectory> | undefined;
  /** Entries in it that are not settled, and one for the sender being in it. */
  #open = 1;

  constructor(
    parent: Folder | undefined,
    id: number | undefined,
    name: string,
    attributes: Attributes,
    target?: TargetDirectory,
  ) {
    this.parent = parent;
    this.id = id;
    this.name = name;
    this.path = parent ? `${parent.path}${name}/` : "";
    this.depth = parent ? parent.depth + 1 : 0;
    this.attributes = attributes;
    this.#target = target && Promise.resolve(target);
  }

  /** It exists on our side. */
  get made(): boolean {
    return this.#target !== undefined;
  }

  /** The directory itself, made with those above it when it is first needed. Rejects with EXISTS, NO_SPACE or IO. */
  async open(): Promise<TargetDirectory> {
    const target = (this.#target ??= this.#make());
    try {
      return await target;
    } catch (error) {
      // It may be tried again, under another name.
      if (this.#target === target) this.#target = undefined;
      throw error;
    }
  }

  async #make(): Promise<TargetDirectory> {
    if (!this.parent) throw new DcpipeError("CLOSED", "the target is closed");
    const above = await this.parent.open();
    return above.directory(this.name);
  }

  /** Takes a name in it. False when the sender has used it before, or one that is the same here. */
  take(name: string, folding: boolean): boolean {
    let names = this.#names.get(folding);
    if (!names) this.#names.set(folding, (names = new NameSet(folding)));
    return names.add(name);
  }

  /** One more entry in it is not settled. */
  enter(): void {
    this.#open++;
  }

  /** One entry less, or the sender has left. True when that was the last. */
  leave(): boolean {
    return --this.#open === 0;
  }

  /** Gives the directory its attributes, and its names to the disk. Without ever having been made, does nothing. */
  async finish(force: boolean): Promise<void> {
    const target = await this.#target;
    this.#target = undefined;
    await target?.finish(this.attributes, force);
  }

  /** Ends the use of it, whatever became of it. Never rejects. */
  async abandon(): Promise<void> {
    const target = this.#target;
    this.#target = undefined;
    await target?.then(
      (target) => target.close(),
      () => undefined,
    );
  }
}
