import { type Export, expected } from './random-exports.ts'

const texts = (input: Export): string[] =>
  expected(input).flatMap((record) => record.map((cell) => cell ?? ''))
const holdsNul = (input: Export): boolean => texts(input).some((text) => text.includes('\0'))
const isBlankQuote = ({ settings }: Export): boolean => settings.quote.trim() === ''

/** Whether a reader can hold an export; docs/csv-format.md says what each cannot. */
export const holds = {
  csvParse: () => true,
  python: () => true,

  papaparse(input: Export): boolean {
    const { delimiter, quote, escape: escapeCharacter } = input.settings
    if (delimiter === '"') return false
    return escapeCharacter === quote || !texts(input).some((text) => text.includes(escapeCharacter))
  },

  fastCsv(input: Export): boolean {
    const [, ...later] = expected(input)
    return !isBlankQuote(input) && !later.some(([first]) => first?.startsWith('\ufeff'))
  },

  pandas: (input: Export) => !isBlankQuote(input) && !holdsNul(input),
  postgres: (input: Export) => !holdsNul(input),

  php: ({ settings }: Export) => settings.escape === settings.quote && settings.recordDelimiter !== '\r',
  ruby: ({ settings }: Export) => settings.escape === settings.quote
}
