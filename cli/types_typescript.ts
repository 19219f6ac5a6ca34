/**
 * Writes the commands of a server as TypeScript declarations, for `connect<Commands>()` in another repository.
 *
 * In: a contract. Out: the text of a module of types. A type that is not known is `unknown`. Refused, by a
 * {@linkcode ContractError}: what `shape.ts` refuses.
 */

import { type Contract, type ContractCommand, errorsIn, paramsIn, shapeIn, sortedByName } from "./contract.ts";
import type { ArrayShape, ObjectShape, Shape } from "./shape.ts";
import { about, madeBy, quoted } from "./types_text.ts";

/** The package that the types are imported from. */
const PACKAGE = "@packline/packline";

/** The type of an item that may be anything, as in the types of `connect()`. */
const ANY_ITEM = "NonNullable<unknown> | null";

/** The declarations. */
export function typescriptTypes(contract: Contract): string {
  const commands = contract.map((command) => `${comment(command)}  ${keyOf(command.name)}: ${commandType(command)};\n`);
  const text = `export type Commands = {\n${commands.join("")}};\n`;
  const names = ["Command", "StandardSchema"].filter((name) => text.includes(`${name}<`));
  const imports = names.length === 0 ? "" : `import type { ${names.join(", ")} } from ${quoted(PACKAGE)};\n\n`;
  return `// ${madeBy("ts")}.\n${imports}/** The commands of the server, for connect<Commands>(). */\n${text}`
    .trimEnd();
}

function comment(command: ContractCommand): string {
  return command.summary === "" ? "" : `  /** ${about(command)} */\n`;
}

function commandType(command: ContractCommand): string {
  const result = typeText(shapeIn(command, "result"));
  const answer = command.stream ? `AsyncGenerator<${result}, unknown, void>` : result;
  const item = command.items ? itemType(shapeIn(command, "items")) : "never";
  return `Command<${typeText(paramsIn(command))}, ${answer}, ${errorsType(command)}, ${item}>`;
}

function itemType(shape: Shape | undefined): string {
  const text = typeText(shape);
  return text === "unknown" ? ANY_ITEM : text;
}

function errorsType(command: ContractCommand): string {
  const errors = errorsIn(command);
  if (errors === undefined) return "unknown";
  const codes = sortedByName(errors).map(([code, shape]) =>
    `${keyOf(code)}: ${shape === undefined ? "null" : `StandardSchema<${typeText(shape)}>`}`
  );
  return codes.length === 0 ? "Record<never, null>" : `{ ${codes.join("; ")} }`;
}

/** A name as the key of an object's type. */
export function keyOf(name: string): string {
  return /^[A-Za-z_]\w*$/.test(name) ? name : quoted(name);
}

/** A shape as a type; `unknown` if it is not known. */
export function typeText(shape: Shape | undefined): string {
  switch (shape?.kind) {
    case "never":
    case "string":
    case "number":
    case "boolean":
    case "null":
      return shape.kind;
    case "integer":
      return "number";
    case "bytes":
      return "Uint8Array";
    case "literal":
      return typeof shape.value === "string" ? quoted(shape.value) : String(shape.value);
    case "union":
      return [...new Set(shape.members.map(typeText))].join(" | ");
    case "array":
      return arrayType(shape);
    case "object":
      return objectType(shape);
    default:
      return "unknown";
  }
}

function arrayType({ first, rest, bounds }: ArrayShape): string {
  const element = typeText(rest);
  if (first.length === 0) return rest.kind === "never" ? "[]" : `(${element})[]`.replace(/^\((\w+)\)/, "$1");
  const least = Number(bounds.get("minItems") ?? 0);
  const elements = first.map((shape, place) => place < least ? typeText(shape) : `(${typeText(shape)})?`);
  return `[${[...elements, ...rest.kind === "never" ? [] : [`...(${element})[]`]].join(", ")}]`;
}

function objectType({ fields, others }: ObjectShape): string {
  if (fields.size === 0) return `Record<string, ${typeText(others)}>`;
  const listed = sortedByName(fields).map(([name, { shape, required }]) =>
    `${keyOf(name)}${required ? "" : "?"}: ${typeText(shape)}`
  );
  if (others !== undefined && others.kind !== "never") listed.push("[name: string]: unknown");
  return `{ ${listed.join("; ")} }`;
}
