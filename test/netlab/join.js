/** Joins two sockets, half-closes and all, until one of them is gone. */
export function join(one, other) {
  one.pipe(other).pipe(one);
  for (const [each, against] of [
    [one, other],
    [other, one],
  ]) {
    each.on("error", () => {});
    each.on("close", () => against.destroy());
  }
}
