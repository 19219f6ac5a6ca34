/** A service that logs each call. Not a test. */

import { accessLog, run } from "../../mod.ts";

await run({ commands: {}, middleware: [accessLog()], logFormat: "json" });
