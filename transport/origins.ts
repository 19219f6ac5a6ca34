/**
 * The web pages that may call a server, by the origin that their browser sends.
 *
 * In: a list. Out: whether a page may call. Refused: a text that is not an origin.
 */

import type { OptionKind } from "../limits.ts";

/** In the list: every page. */
const ANY = "*";

/** Whether a text is an origin as browsers write it, or the text for every page. A star in a name would allow no page. */
export function isOrigin(text: string): boolean {
  if (text === ANY) return true;
  if (!/^[a-z][a-z0-9+.-]*:\/\/[^\s\/?#@*]+$/.test(text)) return false;
  return !/^https?:/.test(text) || URL.canParse(text) && new URL(text).origin === text;
}

/** The check of the option. */
export const ORIGINS: OptionKind = {
  is: (value) => Array.isArray(value) && value.every((each) => typeof each === "string" && isOrigin(each)),
  must: 'be an array of origins as a browser sends them, such as "https://app.example", or "*" for every page',
};

/** The origins of the pages that may call. */
export class Origins {
  readonly #listed: ReadonlySet<string>;

  /** @param listed Exact origins, or `*`. */
  constructor(listed: readonly string[]) {
    this.#listed = new Set(listed);
  }

  /**
   * Whether a request may open a WebSocket. A browser always sends the origin of the page, and no page can change it. A
   * client that sends no origin is a program, which could also call without HTTP.
   *
   * @param origin The `Origin` header of the request; `null` if there is none.
   */
  has(origin: string | null): boolean {
    return origin === null || this.#listed.has(origin) || this.#listed.has(ANY);
  }
}
