/** What the page uses and TypeScript does not know of. */

declare module "qrcode-terminal/vendor/QRCode/index.js" {
  export default class QRCode {
    /** `type`: 1 to 40, or -1 for the smallest that holds the text. */
    constructor(type: number, level: number);
    addData(text: string): void;
    make(): void;
    getModuleCount(): number;
    isDark(row: number, column: number): boolean;
  }
}

/** Chromium's pickers (WICG File System Access). */
interface Window {
  readonly showDirectoryPicker?: (options: {
    readonly mode: "readwrite";
  }) => Promise<FileSystemDirectoryHandle>;
  /** W3C Trusted Types. */
  readonly trustedTypes?: {
    createPolicy(
      name: string,
      rules: { createScriptURL(url: string): string },
    ): { createScriptURL(url: string): string };
  };
  /** WICG Shape Detection. */
  readonly BarcodeDetector?: {
    new (options: { readonly formats: readonly string[] }): {
      detect(image: HTMLVideoElement): Promise<readonly { readonly rawValue: string }[]>;
    };
    getSupportedFormats(): Promise<readonly string[]>;
  };
}
