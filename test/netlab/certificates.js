/** An authority of the lab's own, and certificates for the names of its servers. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { run, scratch } from "../lab/exec.js";

const CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
const DAYS = "2";

let made;

/** The one authority of this process. @returns {Promise<{ ca: string, issue: (name: string) => Promise<{ cert: string, key: string }> }>} paths of PEM files */
export function authority() {
  made ??= createAuthority();
  return made;
}

async function createAuthority() {
  const directory = join(scratch(), "certificates");
  mkdirSync(directory);
  const path = (name) => join(directory, name);
  const subject = ["-subj", "/CN=netlab authority"];
  await openssl(
    "req",
    "-x509",
    "-days",
    DAYS,
    ...subject,
    ...CURVE,
    "-keyout",
    path("ca.key"),
    "-out",
    path("ca.pem"),
  );
  const issued = new Map();
  const issue = async (name) => {
    const [key, request, cert] = ["key", "request", "pem"].map((suffix) => path(`${name}.${suffix}`));
    const names = ["-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${name}`];
    await openssl("req", "-new", ...names, ...CURVE, "-keyout", key, "-out", request);
    const by = ["-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-set_serial", String(issued.size + 2)];
    await openssl(
      "x509",
      "-req",
      "-days",
      DAYS,
      ...by,
      "-copy_extensions",
      "copy",
      "-in",
      request,
      "-out",
      cert,
    );
    return { cert, key };
  };
  return {
    ca: path("ca.pem"),
    issue: (name) => {
      if (!issued.has(name)) issued.set(name, issue(name));
      return issued.get(name);
    },
  };
}

function openssl(...args) {
  return run("openssl", ...args);
}
