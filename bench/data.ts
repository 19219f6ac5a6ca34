/** The data of the works: the table for GET, and the records for LIST. All values of a kind have the same size. */

/** The keys, of 9 characters, in the order of the load. */
export const KEYS: readonly string[] = Array.from({ length: 1_000 }, (_, index) => `user:${1_000 + index}`);

/**
 * A text of 100 bytes for each key. Through JSON, each becomes one piece in memory, like a text that a service has
 * read.
 */
export const TEXTS: ReadonlyMap<string, string> = new Map(
  KEYS.map((key) => [key, JSON.parse(JSON.stringify(`the text of ${key}, `.padEnd(100, "abcdefghij")))]),
);

/** A record of 8 fields. */
export interface Person {
  id: number;
  name: string;
  email: string;
  city: string;
  age: number;
  score: number;
  active: boolean;
  created: number;
}

/** Records in a list. */
const LIST_LENGTH = 20;

const LISTS = 16;

/** The records, in the order of the load: a call of LIST sends one record, and gets a list. */
export const PEOPLE: readonly Person[] = Array.from({ length: LISTS * LIST_LENGTH }, (_, index) => ({
  id: 1_000 + index,
  name: `person number ${1_000 + index}`,
  email: `person.${1_000 + index}@example.com`,
  city: ["Lisbon", "Madrid", "Vienna", "Warsaw"][index % 4],
  age: 20 + index % 60,
  score: index / 8 + 0.01, // never an integer, which would be shorter
  active: index % 3 > 0,
  created: 1_700_000_000 + index,
}));

/** The list for a record. */
export function listFor({ id }: Person): readonly Person[] {
  return ALL_LISTS[id % LISTS];
}

const ALL_LISTS = Array.from(
  { length: LISTS },
  (_, list) => PEOPLE.slice(list * LIST_LENGTH, (list + 1) * LIST_LENGTH),
);

/** The work of a codec in a call of LIST: it reads the request, and writes the reply. */
export const LIST_CALL = "LIST, request read and reply written";

/** The number of waiting calls on each connection. */
export const DELAYS = 1_000;
