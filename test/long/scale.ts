/** How many times the usual counts the long tests run: `LONG_SCALE=10 npm run test:long`, or 0.1 for a quick look. */
const scale = Number(process.env.LONG_SCALE ?? 1)
if (!(scale > 0)) throw new RangeError(`LONG_SCALE is to be a number above 0, got ${process.env.LONG_SCALE}`)

export function scaled(count: number): number {
  return Math.ceil(count * scale)
}

/** @param milliseconds that the usual counts may take; fewer take no less to start */
export function scaledTimeout(milliseconds: number): number {
  return milliseconds * Math.max(1, scale)
}
