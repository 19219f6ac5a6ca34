/**
 * Finds the known word that a mistyped word probably means.
 *
 * In: a word, and the known words. Out: the known word that begins with it, or that differs from it by a few typing
 * mistakes; upper and lower case do not matter. Refused, by `undefined`: a word that is too short, or that is not
 * similar to a known word.
 */

/** The number of letters for each mistake that a word may have. */
const LETTERS_PER_MISTAKE = 3;

/** Returns the closest known word. */
export function closest(word: string, known: Iterable<string>): string | undefined {
  const typed = word.toLowerCase();
  if (typed.length < 2) return undefined;
  let found: string | undefined;
  let least = Math.round(typed.length / LETTERS_PER_MISTAKE) + 1;
  for (const candidate of known) {
    const meant = candidate.toLowerCase();
    const count = meant.startsWith(typed) ? 0 : mistakes(typed, meant);
    if (count >= least) continue;
    least = count;
    found = candidate;
  }
  return found;
}

/** Counts the letters that are missing, added, replaced or swapped with the next one (optimal string alignment). */
function mistakes(typed: string, meant: string): number {
  const counts = [Array.from({ length: meant.length + 1 }, (_, column) => column)];
  for (let row = 1; row <= typed.length; row++) {
    counts[row] = [row];
    for (let column = 1; column <= meant.length; column++) {
      const isSame = typed[row - 1] === meant[column - 1];
      const isSwapped = typed[row - 1] === meant[column - 2] && typed[row - 2] === meant[column - 1];
      counts[row][column] = Math.min(
        counts[row - 1][column] + 1,
        counts[row][column - 1] + 1,
        counts[row - 1][column - 1] + (isSame ? 0 : 1),
        isSwapped && row > 1 && column > 1 ? counts[row - 2][column - 2] + 1 : Infinity,
      );
    }
  }
  return counts[typed.length][meant.length];
}
