/** What the tests of documents have in common. */

/** The section under the first heading of the second level, up to the next one. */
export function firstSection(markdown: string): string {
  const start = markdown.search(/^## /m);
  const length = markdown.slice(start + 1).search(/^## /m);
  if (start < 0 || length < 0) throw new SyntaxError("two headings of the second level are expected");
  return markdown.slice(start, start + 1 + length);
}
