/** A transfer that lasts some seconds, long enough for things to happen to it. */
import { join } from "node:path";
import { type Dcpipe, expectEqualFiles, makeFile, start, succeed, temporaryDirectory } from "./dcpipe.ts";

const MIB = 1024 * 1024;

/** Starts it, and waits for it to be under way. */
export async function slowTransfer(
  namespaces: readonly [string | undefined, string | undefined] = [undefined, undefined],
): Promise<{ sender: Dcpipe; receiver: Dcpipe; check: () => Promise<void> }> {
  const [source, target] = [makeFile("f", 24 * MIB), temporaryDirectory()];
  const sender = start(["send", source, "--limit", "6M"], { namespace: namespaces[0] });
  const receiver = start(["receive", "-o", target, "--to", await sender.offer()], {
    namespace: namespaces[1],
  });
  await receiver.event("progress", ({ bytes = 0 }) => bytes > 4 * MIB);
  return {
    sender,
    receiver,
    check: async () => {
      await succeed(sender, receiver);
      expectEqualFiles(join(target, "f"), source);
    },
  };
}
