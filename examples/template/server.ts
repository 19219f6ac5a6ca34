/** The service as a program. `--help` lists its flags and commands. */

import { run } from "@packline/packline";
import { commands } from "./commands.ts";

export { commands };

if (import.meta.main) await run({ commands });
