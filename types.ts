/** Types that stand behind the public ones: the compiler and an editor show them, and no program has to write them. */

export type * from "./client/call_types.ts";
export type { AnyCode } from "./errors.ts";
export type * from "./handlers/command.ts";
export type * from "./handlers/mistakes.ts";
export type * from "./handlers/server_info.ts";
export type * from "./handlers/standard_schema.ts";
