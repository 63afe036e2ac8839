/** The middle value; of an even number the mean of the two in the middle. */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.floor(sorted.length / 2)]) / 2;
}

/** The value below which a `share` (0 to 1) of all values lies. */
export function at(values, share) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

/** The median, and all runs in the order they ran: `62.1 (61.0, 62.1, 63.4)`. */
export function withRuns(values) {
  const show = (value) => value.toFixed(value < 10 ? 2 : value < 1000 ? 1 : 0);
  return values.length === 1 ? show(values[0]) : `${show(median(values))} (${values.map(show).join(", ")})`;
}
