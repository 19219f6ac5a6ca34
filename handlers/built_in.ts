/** What makes a command of packline's own: as `command()`, with one of the contract's numbers, or with none. */

import type { Answer, Command, CommandOptions, Context } from "./command.ts";

/** In: a definition. Out: the command, frozen. */
export function builtIn<Params, Result extends Answer>(
  definition: CommandOptions & { handler: (params: Params, context: Context) => Result | Promise<Result> },
): Command<Params, Result> {
  return Object.freeze({ ...definition });
}
