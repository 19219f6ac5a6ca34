/**
 * The commands to try packline with, which only the server of `deno task serve` has.
 *
 * In: nothing. Out: the commands. Refused: nothing. They are not built-in ones: a production server with a command that
 * waits as long as a caller likes would let anyone fill its limits.
 */

import { DELAY } from "../handlers/built_ins/delay.ts";
import { ECHO } from "../handlers/built_ins/echo.ts";
import { TALLY } from "../handlers/built_ins/tally.ts";
import { TICK } from "../handlers/built_ins/tick.ts";

/** DELAY, which waits, TICK, which streams, ECHO, and TALLY, which takes a stream. */
export const demoCommands = { DELAY, ECHO, TALLY, TICK };
