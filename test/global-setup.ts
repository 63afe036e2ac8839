/** Tests run the built program: it is built again when a source file is newer than what was made of it. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

export default function setup(): void {
  if (!stale()) return;
  const { status, stdout, stderr } = spawnSync("npm", ["run", "--silent", "compile"], {
    cwd: ROOT,
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`the build failed, so there is nothing to test:\n${stdout}${stderr}`);
}

function stale(): boolean {
  for (const name of readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" })) {
    if (!/\.(ts|css|html)$/.test(name)) continue;
    // What is for browsers is one file, so is the page, and three are for sites.
    const product = /^browser[.\\/]/.test(name)
      ? "browser.js"
      : /^page[\\/]/.test(name)
        ? "page/page.html"
        : /^site[\\/]/.test(name)
          ? "site/worker.js"
          : name.replace(/\.ts$/, ".js");
    const built = join(ROOT, "dist", product);
    if (!existsSync(built) || statSync(built).mtimeMs < statSync(join(ROOT, "src", name)).mtimeMs)
      return true;
  }
  return false;
}
