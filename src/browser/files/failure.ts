/** What the browser's errors about files mean. */
import { DcpipeError } from "../../errors.ts";

export function fileError(cause: unknown, doing: string): DcpipeError {
  if (cause instanceof DcpipeError) return cause;
  const name = cause instanceof Error ? cause.name : "";
  switch (name) {
    case "QuotaExceededError":
      return new DcpipeError("NO_SPACE", "there is no more space for this page", { cause });
    case "TypeMismatchError":
      return new DcpipeError("EXISTS", "something of another kind has this name", { cause });
    case "NotAllowedError":
      return new DcpipeError("IO", `${doing}: the browser does not allow it any more`, { cause });
    case "TypeError":
      return new DcpipeError("IO", `${doing}: the browser does not take this name`, { cause });
    default:
      return new DcpipeError("IO", `${doing}: ${name === "" ? "the browser does not say why" : name}`, {
        cause,
      });
  }
}
