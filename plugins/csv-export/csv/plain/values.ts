/** Texts that V8 makes slower, as they are in every row of a report. Each is put together from prepared ones. */

const dayLength = 86_400_000
/** The years 0 to 9999: others have six digits and a sign. */
const [firstTime, lastTime] = [Date.UTC(-1, 12), Date.UTC(10_000, 0) - 1]

const table = (length: number, text: (number: number) => string): string[] =>
  Array.from({ length }, (_, number) => text(number))
const padded = (number: number, digits: number): string => String(number).padStart(digits, '0')

const groups = table(1000, String)
const paddedGroups = table(1000, (number) => padded(number, 3))
const decimals = table(1000, (number) => (number === 0 ? '' : String(number / 1000).slice(1)))
const pairs = table(100, (number) => padded(number, 2))
const minutes = table(1440, (number) => `${padded(Math.trunc(number / 60), 2)}:${padded(number % 60, 2)}:`)
const seconds = table(60, (number) => `${padded(number, 2)}.`)
const milliseconds = table(1000, (number) => `${padded(number, 3)}Z`)

const keptNumbers = new Map<string, (value: number) => string>()
const mostKeptNumbers = 20

/**
 * A function that gives a text, such as a delimiter, and a number's text: both at once, from prepared ones, as to join
 * them for each number would cost as much as the number.
 */
export function numbersAfter(before: string): (value: number) => string {
  const kept = keptNumbers.get(before)
  if (kept !== undefined) return kept
  if (keptNumbers.size === mostKeptNumbers) keptNumbers.clear()
  const made = makeNumbersAfter(before)
  keptNumbers.set(before, made)
  return made
}

/**
 * As String(value), without the cache in which V8 keeps the texts of the last numbers, from where they outlive young
 * garbage collections and swell the heap of a long export (docs/performance.md).
 */
function makeNumbersAfter(before: string): (value: number) => string {
  const firstGroups = groups.map((group) => before + group)
  /** @param value a whole number from 0 to 2 ** 31 - 1 */
  const wholeText = (value: number): string => {
    if (value < 1000) return firstGroups[value] as string
    const thousands = (value / 1000) | 0
    const last = paddedGroups[value - thousands * 1000] as string
    if (thousands < 1000) return (firstGroups[thousands] as string) + last
    const millions = (thousands / 1000) | 0
    const middle = paddedGroups[thousands - millions * 1000] as string
    if (millions < 1000) return firstGroups[millions] + middle + last
    const billions = (millions / 1000) | 0
    return (firstGroups[billions] as string) + paddedGroups[millions - billions * 1000] + middle + last
  }
  return (value) => {
    // In 32 bits V8 divides without a floating point. The comparison is true of -0, too, whose text is that of 0.
    const whole = value | 0
    if (whole === value && whole >= 0) return wholeText(whole)
    if (value < 0) return `${before}-${numbersAfter('')(-value)}`
    const thousandths = Math.round(value * 1000)
    // A double has one decimal of at most 15 digits: if it is this one, there is no shorter one to be found.
    if (thousandths < 1e12 && thousandths / 1000 === value) {
      const units = Math.floor(thousandths / 1000)
      return wholeText(units) + decimals[thousandths - units * 1000]
    }
    return before + (Number.isFinite(value) ? JSON.stringify(value) : String(value))
  }
}

// A report's dates are of a few years, and the same day comes again.
const keptDays = new Float64Array(1024).fill(Number.NaN)
const keptDayTexts = table(keptDays.length, () => '')

/** As `new Date(time).toISOString()`; undefined for no time, and for years that do not have four digits. */
export function dateText(time: number): string | undefined {
  if (!(time >= firstTime && time <= lastTime)) return undefined
  const day = Math.floor(time / dayLength)
  const slot = day & (keptDays.length - 1)
  if (keptDays[slot] !== day) {
    keptDays[slot] = day
    keptDayTexts[slot] = dayText(day)
  }
  const rest = time - day * dayLength
  const minute = Math.floor(rest / 60_000)
  const second = Math.floor(rest / 1000)
  return (
    (keptDayTexts[slot] as string) +
    minutes[minute] +
    seconds[second - minute * 60] +
    milliseconds[rest - second * 1000]
  )
}

/**
 * Year, month and day, and the T, of a day since 1970. Years begin in March here, so that a leap day is a year's last:
 * https://howardhinnant.github.io/date_algorithms.html#civil_from_days
 */
function dayText(day: number): string {
  const shifted = day + 719_468
  const era = Math.floor(shifted / 146_097)
  const dayOfEra = shifted - era * 146_097
  const leapDays =
    Math.floor(dayOfEra / 1460) - Math.floor(dayOfEra / 36_524) + Math.floor(dayOfEra / 146_096)
  const yearOfEra = Math.floor((dayOfEra - leapDays) / 365)
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const monthFromMarch = Math.floor((5 * dayOfYear + 2) / 153)
  const dayOfMonth = dayOfYear - Math.floor((153 * monthFromMarch + 2) / 5) + 1
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
  const year = era * 400 + yearOfEra + (month <= 2 ? 1 : 0)
  const century = Math.floor(year / 100)
  return `${pairs[century]}${pairs[year - century * 100]}-${pairs[month]}-${pairs[dayOfMonth]}T`
}
