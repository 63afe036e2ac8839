/** A code from the camera, where the browser reads QR codes by itself. */

/** Milliseconds between two looks. */
const LOOK_MS = 200;

/** Whether this browser can: Chromium on Android, ChromeOS and macOS; a camera is asked for later. */
export async function canScan(): Promise<boolean> {
  // Typed as always there; it is not in a page that is not secure.
  const media = navigator.mediaDevices as MediaDevices | undefined;
  if (!window.BarcodeDetector || !media) return false;
  const none: readonly string[] = [];
  return (await window.BarcodeDetector.getSupportedFormats().catch(() => none)).includes("qr_code");
}

/** Shows the camera in `video` until there is a QR code. Rejects when there is no camera, with ABORTED when stopped. */
export async function scan(video: HTMLVideoElement, signal: AbortSignal): Promise<string> {
  if (!window.BarcodeDetector) throw new Error("this browser reads no QR codes");
  const detector = new window.BarcodeDetector({ formats: ["qr_code"] });
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  try {
    video.srcObject = stream;
    await video.play();
    for (;;) {
      signal.throwIfAborted();
      const [found] = await detector.detect(video);
      if (found) return found.rawValue;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  } finally {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
  }
}
