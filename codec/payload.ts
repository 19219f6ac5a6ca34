/**
 * What those who read a message see of its payload, and how a field is set that a peer has named.
 *
 * In: a map, the name of a field. Out: the map with the field. Refused: nothing.
 */

/** An index so large that V8 stores the object's elements in a hash table. */
const FAR_INDEX = 2 ** 32 - 2;

/** One payload, as those who read a message see it. */
export interface Payload {
  /** The memory used by the values read so far, in bytes. */
  readonly weightBytes: number;
  /** The object for the fields that are not the message's own. */
  otherFields(): Record<string, unknown>;
  /** How many keys follow, each before its value. */
  readMapSize(): number;
  readKey(): string;
  readValue(): unknown;
  /** Reads a value that is likely to repeat, such as the name of a command. */
  readName(): unknown;
  /** Reads the next value into a field of a map. */
  readField(map: Record<string, unknown>, key: string): void;
  /** Rejects bytes after the last value. */
  finish(): void;
}

/**
 * Stores an object's elements in a hash table from now on. Otherwise V8 allocates an array with 3,800 slots for two
 * keys such as 1023 and 2572.
 */
export function keepAsTable(object: Record<string, unknown>): void {
  object[FAR_INDEX] = 0;
  delete object[FAR_INDEX];
}

/**
 * Sets an own field with any name. A plain assignment may change the prototype for `__proto__`, and fails for
 * `toString` in a program that has frozen `Object.prototype`.
 */
export function setField(fields: Record<string, unknown>, name: string, value: unknown): void {
  if (name === "__proto__") return defineField(fields, name, value);
  try {
    fields[name] = value;
  } catch {
    defineField(fields, name, value);
  }
}

function defineField(fields: Record<string, unknown>, name: string, value: unknown): void {
  Object.defineProperty(fields, name, { value, writable: true, enumerable: true, configurable: true });
}
