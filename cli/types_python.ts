/**
 * Writes the commands of a server as types for Python 3.11 and later: a `TypedDict` for each object, and an alias for
 * everything else.
 *
 * In: a contract. Out: the text of a module. A type that is not known is `object`. Refused, by a
 * {@linkcode ContractError}: what `shape.ts` refuses.
 */

import { printable } from "../codec/printable.ts";
import { type Contract, type ContractCommand, errorsIn, paramsIn, shapeIn, sortedByName } from "./contract.ts";
import { ANY_SHAPE, elementsOf, type ObjectShape, type Shape } from "./shape.ts";
import { about, madeBy, TypeNames } from "./types_text.ts";

/**
 * The names that a field of a class can have. Excluded are names that Python changes or reserves, keywords, and the
 * names of types.
 */
const FIELD = /^(?!__)[A-Za-z_][A-Za-z0-9_]*$/;

const NO_FIELDS: ReadonlySet<string> = new Set([
  ...("False None True and as assert async await break class continue def del elif else except finally " +
    "for from global if import in is lambda nonlocal not or pass raise return try while with yield").split(" "),
  ...["bool", "bytes", "dict", "float", "int", "list", "object", "str", "Literal", "Never", "NotRequired"],
]);

/** The types. */
export function pythonTypes(contract: Contract): string {
  const writer = new PythonWriter();
  for (const command of contract) writer.addCommand(command);
  return writer.text();
}

class PythonWriter {
  readonly #names = new TypeNames();
  /** Declarations, each after those that it uses. */
  readonly #written: string[] = [];

  addCommand(command: ContractCommand): void {
    const { name, stream, items } = command;
    this.#written.push(`# ${about(command)}`);
    this.#declare(paramsIn(command), name, "Params");
    this.#declare(shapeIn(command, "result") ?? ANY_SHAPE, name, stream ? "ReplyItem" : "Result");
    if (items) this.#declare(shapeIn(command, "items") ?? ANY_SHAPE, name, "Item");
    for (const [code, shape] of errorsIn(command) ?? []) {
      if (shape !== undefined) this.#declare(shape, name, code, "Data");
    }
  }

  text(): string {
    const declarations = this.#written.join("\n\n\n").replaceAll(/^(#.*)\n\n\n/gm, "$1\n");
    const used = ["Literal", "Never", "NotRequired", "TypeAlias", "TypedDict"].filter((name) =>
      new RegExp(`\\b${name}\\b`).test(declarations)
    );
    const imports = used.length === 0 ? "" : `from typing import ${used.join(", ")}\n\n\n`;
    return `# ${madeBy("python")}.\n${imports}${declarations}`.trimEnd();
  }

  /** The name is given first: that of a whole union, and not of its first member. */
  #declare(shape: Shape, ...words: string[]): void {
    const name = this.#names.of(...words);
    if (shape.kind === "object" && shape.fields.size > 0) this.#declareObject(name, shape, words);
    else this.#written.push(`${name}: TypeAlias = ${this.#type(shape, words)}`);
  }

  /** Declares an object; returns its name. */
  #declareObject(name: string, { fields }: ObjectShape, words: readonly string[]): string {
    const listed = sortedByName(fields).map(([field, { shape, required }]) => {
      const type = this.#type(shape, [...words, field]);
      return [field, required ? type : `NotRequired[${type}]`];
    });
    const isClass = listed.every(([field]) => FIELD.test(field) && !NO_FIELDS.has(field));
    this.#written.push(
      isClass
        ? `class ${name}(TypedDict):\n${listed.map(([field, type]) => `    ${field}: ${type}`).join("\n")}`
        : `${name} = TypedDict("${name}", {\n${
          listed.map(([field, type]) => `    ${textLiteral(field)}: ${type},`).join("\n")
        }\n})`,
    );
    return name;
  }

  #type(shape: Shape, words: readonly string[]): string {
    switch (shape.kind) {
      case "string":
        return "str";
      case "bytes":
        return "bytes";
      case "number":
        return "float";
      case "integer":
        return "int";
      case "boolean":
        return "bool";
      case "null":
        return "None";
      case "never":
        return "Never";
      case "literal":
        return literalType(shape.value);
      case "union":
        return this.#union(shape.members, words);
      case "array":
        return `list[${this.#union(elementsOf(shape), [...words, "Entry"])}]`;
      case "object":
        return shape.fields.size > 0
          ? this.#declareObject(this.#names.of(...words), shape, words)
          : `dict[str, ${this.#type(shape.others ?? ANY_SHAPE, words)}]`;
      default:
        return "object";
    }
  }

  #union(members: readonly Shape[], words: readonly string[]): string {
    return [...new Set(members.map((member) => this.#type(member, words)))].join(" | ");
  }
}

function literalType(value: string | number | boolean): string {
  if (typeof value === "boolean") return value ? "Literal[True]" : "Literal[False]";
  if (typeof value === "string") return `Literal[${textLiteral(value)}]`;
  return Number.isSafeInteger(value) ? `Literal[${value}]` : "float";
}

/** A text in double quotes. Python does not join the halves of a pair of UTF-16, so it is not escaped as in JSON. */
function textLiteral(text: string): string {
  const characters = Array.from(text, (character) => {
    if (!/["\\]/.test(character) && printable(character) === character) return character;
    return `\\U${(character.codePointAt(0) as number).toString(16).padStart(8, "0")}`;
  });
  return `"${characters.join("")}"`;
}
