/**
 * Completes a line at Tab: names of commands, then names of their parameters.
 *
 * In: the line up to the cursor, and the commands from the server's INFO. Out: the candidates, and the part of them
 * that is already typed. Refused: nothing.
 */

/** A command with its parameters. */
export interface KnownCommand {
  readonly name: string;
  readonly params: readonly string[];
}

/** The prompt's own commands. */
const PROMPT_WORDS = ["describe ", "help", "quit"];

/** The candidates for the end of the line. */
export function completionsOf(line: string, commands: readonly KnownCommand[]): [candidates: string[], begun: string] {
  const words = line.trimStart().split(/\s+/);
  const begun = words[words.length - 1];
  const names = commands.map(({ name }) => `${name} `);
  const candidates = words.length === 1
    ? [...names, ...PROMPT_WORDS]
    : words.length === 2 && words[0] === "describe"
    ? names
    : (commands.find(({ name }) => name === words[0])?.params ?? [])
      .map((param) => `${param}=`)
      .filter((param) => !words.slice(1, -1).some((word) => word.startsWith(param)));
  return [candidates.filter((candidate) => candidate.startsWith(begun)), begun];
}

/** The commands in a reply to INFO; malformed entries are skipped. */
export function knownCommands(listed: readonly unknown[]): KnownCommand[] {
  return listed.flatMap((command) => {
    const { name, params = [] } = (command ?? {}) as Record<string, unknown>;
    if (typeof name !== "string" || !/^[!-~]+$/.test(name) || !Array.isArray(params)) return [];
    return [{ name, params: params.filter((param) => typeof param === "string" && /^[!-~]+$/.test(param)) }];
  });
}
