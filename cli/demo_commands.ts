/**
 * Commands for trying packline, which only the server of `deno task serve` has.
 *
 * In: nothing. Out: the commands. Refused: nothing. They are not built in: a command that waits as long as its caller
 * likes would let anyone fill the limits of a production server.
 */

import { DELAY } from "../handlers/built_ins/delay.ts";
import { ECHO } from "../handlers/built_ins/echo.ts";
import { TALLY } from "../handlers/built_ins/tally.ts";
import { TICK } from "../handlers/built_ins/tick.ts";

/** DELAY, which waits, TICK, which streams, ECHO, and TALLY, which takes a stream. */
export const demoCommands = { DELAY, ECHO, TALLY, TICK };
