/** Compares values more strictly than `assertEquals`. */

/** Where two values differ, in anything: the sign of 0, the order of keys, a prototype. */
export function difference(one: unknown, other: unknown, path = "$"): string | undefined {
  if (Object.is(one, other)) return;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return path;
  if (Object.getPrototypeOf(one) !== Object.getPrototypeOf(other)) return `${path}, its prototype`;
  if (one instanceof Uint8Array && other instanceof Uint8Array) {
    if (one.length !== other.length) return `${path}, its length`;
    const index = one.findIndex((byte, index) => byte !== other[index]);
    return index < 0 ? undefined : `${path}, byte ${index}`;
  }
  const keys = Object.keys(one);
  const others = Object.keys(other);
  if (keys.length !== others.length) return `${path}, its size`;
  for (let index = 0; index < keys.length; index++) {
    const key = keys[index];
    if (key !== others[index]) return `${path}, its keys`;
    const found = difference(Reflect.get(one, key), Reflect.get(other, key), `${path}.${key}`);
    if (found !== undefined) return found;
  }
}
