/**
 * `--types` and `--check`: writes the types of a server's commands, or compares them with a saved contract.
 *
 * In: flags. Out: the types or the changes on stdout, and an exit code: 1 if a change breaks callers. Refused: what the
 * client refuses; a description or a file that cannot be used, by an `InputError`.
 */

import { printable } from "../codec/printable.ts";
import type { ClientFlags } from "./client_flags.ts";
import { breakingChanges } from "./contract_changes.ts";
import { type Contract, contractOf, contractText, servedContract } from "./contract.ts";
import { InputError, readInput } from "./input_file.ts";
import { print } from "./output.ts";
import { ContractError } from "./shape.ts";
import { luaTypes } from "./types_lua.ts";
import { pythonTypes } from "./types_python.ts";
import { typescriptTypes } from "./types_typescript.ts";
import { utf8 } from "./values.ts";
import { wholeClient } from "./whole_client.ts";

const WRITERS = { ts: typescriptTypes, lua: luaTypes, python: pythonTypes, json: contractText };

/** Runs `--types` or `--check`. */
export async function runContract(flags: ClientFlags): Promise<number> {
  const { types = "json", check } = flags;
  // The file first: if it cannot be read, no connection is needed.
  const saved = check === undefined ? undefined : await savedContract(check);
  const contract = await contractFor(flags);
  if (saved === undefined) {
    await print(await usable("the types of the server cannot be written", () => WRITERS[types](contract)));
    return 0;
  }
  const changes = await usable("the contracts cannot be compared", () => breakingChanges(saved, contract));
  if (changes.length === 0) {
    await print(`no change breaks the callers of ${saved.length} ${saved.length === 1 ? "command" : "commands"}`);
    return 0;
  }
  await print(changes.map(printable).join("\n"));
  return 1;
}

/** The contract of the server that the flags name. */
async function contractFor(flags: ClientFlags): Promise<Contract> {
  await using client = await wholeClient(flags, { lazy: false });
  return await usable("the server's reply to INFO cannot be used", () => servedContract(client));
}

function savedContract(path: string): Promise<Contract> {
  const text = utf8(readInput(path, `--check ${path}`));
  return usable(`cannot use --check ${path}`, () => {
    if (text === undefined) throw new ContractError("it is not text in UTF-8");
    return contractOf(parsed(text));
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ContractError("it is not JSON; save what --types json prints");
  }
}

/** Returns what `make` returns. If the description cannot be used, the error begins with `failure`. */
async function usable<Result>(failure: string, make: () => Result | Promise<Result>): Promise<Result> {
  try {
    return await make();
  } catch (error) {
    throw error instanceof ContractError ? new InputError(`${failure}: ${error.message}`) : error;
  }
}
