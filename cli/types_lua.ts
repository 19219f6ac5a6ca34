/**
 * Writes the commands of a server as LuaCATS annotations, for code in nginx that calls them with `resty.packline`. An
 * editor with the Lua language server reads the file; it is never run.
 *
 * In: a contract. Out: the text of a definition file. A type that is not known is `unknown`. Refused, by a
 * {@linkcode ContractError}: what `shape.ts` refuses.
 */

import { printable } from "../codec/printable.ts";
import { type Contract, type ContractCommand, paramsIn, shapeIn, sortedByName } from "./contract.ts";
import { ANY_SHAPE, elementsOf, type ObjectShape, type Shape } from "./shape.ts";
import { about, commented, madeBy, TypeNames } from "./types_text.ts";

/** Names that an annotation can contain without quotes. The excluded ones are read as the visibility of a field. */
const PLAIN = /^(?!(?:public|protected|private|package)$)[A-Za-z_]\w*$/;

const FAILURE = `---Why a call has no reply.
---@class packline.Failure
---@field code string
---@field msg? string
---@field data? unknown
---@field retryable boolean
---@field after? number

---Bytes to send, made by packline.binary(bytes). Received bytes are strings.
---@class packline.Binary`;

const METHODS = {
  call: "---Calls a command.",
  stream: "---Calls a command that answers with a stream.",
};

/** The annotations. */
export function luaTypes(contract: Contract): string {
  const writer = new LuaWriter();
  for (const command of contract) writer.addCommand(command);
  return writer.text();
}

class LuaWriter {
  readonly #names = new TypeNames();
  readonly #written: string[] = [];
  readonly #calls: string[] = [];
  readonly #streams: string[] = [];

  constructor() {
    for (const name of ["Failure", "Binary", "Client"]) this.#names.of(name);
  }

  addCommand(command: ContractCommand): void {
    const { name, summary, stream } = command;
    if (!isQuotable(name)) {
      this.#written.push(`-- A command is left out, because its name cannot be written here: ${commented(name)}`);
      return;
    }
    const params = this.#named(paramsIn(command), name, "Params", true);
    const result = this.#type(shapeIn(command, "result") ?? ANY_SHAPE, [name, stream ? "Item" : "Result"], false);
    const head = `fun(self: packline.Client, cmd: "${name}", params: ${params}, ${this.#options(command)})`;
    const comment = summary === "" ? [] : [`---${about(command)}`];
    if (stream) {
      this.#streams.push(...comment, `---@overload ${head}: fun(): ${result}`);
    } else {
      const reply = `packline.${this.#names.of(name, "Reply")}`;
      this.#written.push(`---@class ${reply}\n---@field res ${result}`);
      this.#calls.push(...comment, `---@overload ${head}: ${reply}?, packline.Failure?`);
    }
  }

  /** The caller's stream is an option. */
  #options(command: ContractCommand): string {
    if (!command.items) return "options?: table";
    const item = this.#type(shapeIn(command, "items") ?? ANY_SHAPE, [command.name, "Sent"], true);
    return `options: { items: ${item}[]|(fun(): ${item}?) }`;
  }

  text(): string {
    const method = (name: keyof typeof METHODS, overloads: readonly string[], returned: string) =>
      [
        METHODS[name],
        ...overloads,
        "---@param cmd string|integer",
        "---@param params? table",
        "---@param options? table",
      ]
        .concat(returned === "" ? [] : [returned], `function Client:${name}(cmd, params, options) end`).join("\n");
    return [
      `---@meta\n-- ${madeBy("lua")}.`,
      FAILURE,
      ...this.#written,
      "---@class packline.Client\nlocal Client = {}",
      method("call", this.#calls, "---@return table? reply, packline.Failure? failure"),
      method("stream", this.#streams, "---@return fun(): unknown"),
      "return Client",
    ].join("\n\n");
  }

  /** The type of parameters. An object with fields gets its own class. */
  #named(shape: Shape, name: string, role: string, isSent: boolean): string {
    if (shape.kind === "object" && shape.fields.size > 0) return this.#class(shape, [name, role], isSent);
    return this.#type(shape, [name, role], isSent);
  }

  #class({ fields, others }: ObjectShape, words: readonly string[], isSent: boolean): string {
    const name = `packline.${this.#names.of(...words)}`;
    const lines = [`---@class ${name}`];
    let isWhole = others === undefined || others.kind === "never";
    for (const [field, { shape, required }] of sortedByName(fields)) {
      const type = this.#type(shape, [...words, field], isSent);
      const mark = required ? "" : "?";
      if (PLAIN.test(field)) lines.push(`---@field ${field}${mark} ${type}`);
      else if (isQuotable(field)) lines.push(`---@field ["${field}"]${mark} ${type}`);
      else isWhole = false;
    }
    if (!isWhole) lines.push("---@field [string] unknown");
    this.#written.push(lines.join("\n"));
    return name;
  }

  #type(shape: Shape, words: readonly string[], isSent: boolean): string {
    switch (shape.kind) {
      case "bytes":
        return isSent ? "packline.Binary" : "string";
      case "null":
        return "nil";
      case "string":
      case "number":
      case "integer":
      case "boolean":
      case "never":
        return shape.kind;
      case "literal":
        return literalType(shape.value);
      case "union":
        return this.#union(shape.members, words, isSent);
      case "array":
        return `${this.#union(elementsOf(shape), [...words, "Entry"], isSent)}[]`;
      case "object":
        return shape.fields.size > 0
          ? this.#class(shape, words, isSent)
          : `table<string, ${this.#type(shape.others ?? ANY_SHAPE, words, isSent)}>`;
      default:
        return "unknown";
    }
  }

  #union(members: readonly Shape[], words: readonly string[], isSent: boolean): string {
    const types = [...new Set(members.map((member) => this.#type(member, words, isSent)))];
    return types.length === 1 ? types[0] : `(${types.join("|")})`;
  }
}

/** Whether an annotation can contain a text in quotes. */
function isQuotable(text: string): boolean {
  return text !== "" && !/["'[\\\]]/.test(text) && printable(text) === text;
}

function literalType(value: string | number | boolean): string {
  if (typeof value === "string") return isQuotable(value) ? `"${value}"` : "string";
  return typeof value === "number" && !Number.isSafeInteger(value) ? "number" : String(value);
}
