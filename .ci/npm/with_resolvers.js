/** `Promise.withResolvers()`, which Node has from version 22 on. */
export function withResolvers() {
  let resolve, reject;
  const promise = new Promise((...both) => [resolve, reject] = both);
  return { promise, resolve, reject };
}
