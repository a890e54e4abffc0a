/** The known name that a misspelt one is most like, if it is like one at all; case and underscores do not count. */
export function nearestName(name: string, names: readonly string[]): string | undefined {
  const likenesses = names.map((known) => likeness(fold(name), fold(known)))
  const greatest = Math.max(...likenesses)
  return greatest > 0.5 ? names[likenesses.indexOf(greatest)] : undefined
}

function fold(name: string): string {
  return name.replaceAll('_', '').toLowerCase()
}

/** How much of the longer text is the same, 0 to 1: the shorter one within it, or else how both begin and end. */
function likeness(one: string, other: string): number {
  const [short, long] = one.length < other.length ? [one, other] : [other, one]
  if (long.includes(short)) return short.length / long.length
  let start = 0
  while (short[start] === long[start]) start++
  let end = 0
  while (start + end < short.length && short.at(-1 - end) === long.at(-1 - end)) end++
  return (start + end) / long.length
}
