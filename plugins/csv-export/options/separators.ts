import { isUtf8 } from 'node:buffer'
import { describe } from '../describe.ts'
import { refusal } from './option.ts'
import { csvDefaults, type FileSettings } from './options.ts'

/** What stands between fields and records, and around and in fields, as the text that is written. */
export interface Separators {
  delimiter: string
  /** Empty where nothing is quoted. */
  quote: string
  escape: string
  recordDelimiter: string
}

type Name = keyof Separators

const checked = ['delimiter', 'recordDelimiter', 'quote', 'escape', 'headerAsComment'] as const

const recordDelimiters = new Map([
  ['unix', '\n'],
  ['mac', '\r'],
  ['windows', '\r\n'],
  ['ascii', '\u001e'],
  ['unicode', '\u2028']
])

/** Names, such as `windows`, as the separators that they mean; Buffers as text. */
export function separatorsOf(settings: Pick<FileSettings, Name>): Separators {
  const { delimiter, recordDelimiter, quote } = settings
  const quoteText = quote === true ? '"' : quote === false ? '' : String(quote)
  return {
    delimiter: String(delimiter),
    quote: quoteText,
    escape: String(settings.escape ?? quoteText),
    recordDelimiter: recordDelimiters.get(String(recordDelimiter)) ?? String(recordDelimiter)
  }
}

/** What a reader of the file is told that a comment begins with: one character. Empty if the header is no comment. */
export function commentMarkOf(header: unknown, headerAsComment: unknown): string {
  if (!header || !headerAsComment) return ''
  const [mark = ''] = headerAsComment === true ? '#' : String(headerAsComment)
  return mark
}

/** Throws CSV_EXPORT_INVALID_OPTION if a file with these separators could not be read back. */
export function checkSeparators(settings: FileSettings): void {
  // The defaults are right, and would be checked for each export.
  if (checked.every((name) => isDefault(name, settings))) return
  const separators = separatorsOf(settings)
  const names: Name[] =
    separators.quote === ''
      ? ['delimiter', 'recordDelimiter']
      : ['delimiter', 'recordDelimiter', 'quote', 'escape']
  for (const name of names) checkText(name, separators[name], settings[name])
  for (const [index, name] of names.entries()) {
    for (const other of names.slice(index + 1)) checkPair(name, other, separators, settings)
  }
  if (separators.quote === '') checkNothingQuoted(settings)
  checkComment(settings, separators, names)
}

function checkText(name: Name, text: string, option: unknown): void {
  const isText = Buffer.isBuffer(option) ? isUtf8(option) : text.isWellFormed()
  if (!isText) throw refusal(name, 'whole characters, no half of a surrogate pair and no byte of none', text)
  if (name !== 'recordDelimiter' && /[\r\n]/.test(text)) throw refusal(name, 'without a line break', text)
  if (text.includes('\ufeff')) throw refusal(name, 'without a byte order mark', text)
  if (name === 'quote' && text.length > 1) throw refusal(name, 'of at most one character', text)
}

/** A reader would take what is left of one for the other, in a row or a field that is nobody's mistake. */
function checkPair(name: Name, other: Name, separators: Separators, settings: FileSettings): void {
  const [text, otherText] = [separators[name], separators[other]]
  if (name === 'quote' && other === 'escape' && text === otherText) return
  if (!overlap(text, otherText)) return
  // A default is hardly what was wrong.
  const [wrong, right] = isDefault(name, settings) ? [other, name] : [name, other]
  const expected = `a text that does not contain, begin or end like "${right}", ${describe(separators[right])}`
  throw refusal(wrong, expected, separators[wrong])
}

function overlap(one: string, other: string): boolean {
  return one.includes(other) || other.includes(one) || endBegins(one, other) || endBegins(other, one)
}

function endBegins(left: string, right: string): boolean {
  for (let length = 1; length <= left.length; length++) {
    if (right.startsWith(left.slice(-length))) return true
  }
  return false
}

function isDefault(name: (typeof checked)[number], settings: FileSettings): boolean {
  return settings[name] === (name === 'escape' ? undefined : csvDefaults[name])
}

function checkNothingQuoted(settings: FileSettings): void {
  for (const name of ['quoted', 'quotedString', 'quotedEmpty', 'quotedMatch'] as const) {
    const value = settings[name]
    if (value === undefined || value === false) continue
    throw refusal(name, 'false or left out where there is no "quote"', value)
  }
}

function checkComment(settings: FileSettings, separators: Separators, names: readonly Name[]): void {
  const { header, headerAsComment } = settings
  const text = headerAsComment === true ? '#' : String(headerAsComment || '')
  if (/[\r\n]/.test(text) || text.includes(separators.recordDelimiter)) {
    throw refusal('headerAsComment', 'without a line break or "recordDelimiter"', text)
  }
  const mark = commentMarkOf(header, headerAsComment)
  const separator = names.find((name) => mark !== '' && separators[name].includes(mark))
  if (separator === undefined) return
  throw refusal('headerAsComment', `a text whose first character is not in "${separator}"`, text)
}
