/** Breaks a method of the library on purpose, for as long as a canary runs. */

/**
 * Puts another method in the place of one.
 *
 * @param make Is given the one that was there.
 * @returns Puts it back when it is disposed.
 */
export function replaced<Owner extends object, Name extends keyof Owner>(
  owner: Owner,
  name: Name,
  make: (original: Owner[Name]) => Owner[Name],
): Disposable {
  const original = Object.getOwnPropertyDescriptor(owner, name) as PropertyDescriptor;
  Object.defineProperty(owner, name, { ...original, value: make(original.value) });
  return { [Symbol.dispose]: () => void Object.defineProperty(owner, name, original) };
}
