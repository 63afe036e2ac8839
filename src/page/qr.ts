/** A QR code as a drawing. The library is the one that draws it on terminals. */
import QRCode from "qrcode-terminal/vendor/QRCode/index.js";
import { svg } from "./dom.ts";

/** Modules of light around it (ISO/IEC 18004, section 6.3.8). */
const QUIET = 4;
/** Level L, as in the library: what is on a screen is neither torn nor dirty. */
const LEVEL_L = 1;

export function drawQr(text: string): SVGElement {
  const code = new QRCode(-1, LEVEL_L);
  code.addData(text);
  code.make();
  const count = code.getModuleCount();
  let path = "";
  for (let row = 0; row < count; row++)
    for (let column = 0; column < count; column++)
      if (code.isDark(row, column)) path += `M${column + QUIET} ${row + QUIET}h1v1h-1z`;
  const size = count + 2 * QUIET;
  return svg(
    "svg",
    {
      class: "qr",
      viewBox: `0 0 ${size} ${size}`,
      role: "img",
      "aria-label": "QR code of the link",
      "shape-rendering": "crispEdges",
    },
    svg("path", { class: "light", d: `M0 0h${size}v${size}H0z` }),
    svg("path", { class: "dark", d: path }),
  );
}
