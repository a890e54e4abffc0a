/** What rows are like, and their text. The same layout makes the same function. */
export interface Layout {
  /** Properties of objects, in the order of the columns; of arrays the number of cells. */
  keys: readonly string[] | number
  /** Whether an array of fewer cells is a row, too: the others are empty then. */
  isShortAllowed?: boolean
  /** Whether an object with a `toJSON()` is not written. */
  heedsToJSON: boolean
  /** Whether keys without a column have to be seen. */
  countsKeys: boolean
  /** Whether a text may be escaped, or be refused. */
  guardsFormulas: boolean
  delimiter: string
  quote: string
  recordDelimiter: string
  /** What makes a comment of a line; may be empty. */
  comment: string
  /** Whether what any program may take for a separator needs quotes. */
  excel: boolean
}

/** Columns. To compile code for each of more takes V8 longer than it saves, but in files of many 100,000 rows. */
const mostNamed = 20

/** Characters. Longer texts seldom come again, and are not to be held. */
const longestRemembered = 64

/** After so many new texts of a column, it is asked whether as many rows had one of the last two. */
const newTexts = 64

// What is put into the code is a number of ours, or made by JSON.stringify, which makes a literal of any text.
const { stringify: literal } = JSON

/**
 * The body of a function of `texts`, a `Texts`, and `keys`, those of the layout. What it gives makes, of a file's `FileParts`, its
 * `RowWriter`.
 */
export function codeOf(layout: Layout): string {
  const { keys, recordDelimiter } = layout
  const isOfArrays = typeof keys === 'number'
  const width = isOfArrays ? keys : keys.length
  const named = Array.from({ length: width > mostNamed ? 1 : width }, (_, index) => index)
  return `
'use strict'
var { ofText, ofNumber, ofDelimiterAndNumber, ofOther, isMisreadFirst, isEndOfData } = texts
return ({ records, formulas, use }) => {
  var unused = use === undefined ? [] : use.unused
  var rows = 0
  ${named.map(memoryCode).join('')}
  return (row) => {
    ${isOfArrays ? arrayCheck(layout) : objectCheck(layout)}
    var text = ''
    var value, field
    rows++
    ${named.map((index) => namedCellCode(layout, index, isOfArrays ? index : literal(keys[index]))).join('')}
    ${width === 1 ? onlyCellCode(layout) : ''}
    ${width > mostNamed ? otherCellsCode(layout, width) : keysCode(layout)}
    if (unused.length !== 0) use.${isOfArrays ? 'seeCells' : 'seeCellsOf'}(row)
    return text + ${literal(recordDelimiter)}
  }
}`
}

function arrayCheck({ keys, isShortAllowed }: Layout): string {
  return `if (!Array.isArray(row) || row.length ${isShortAllowed ? '>' : '!=='} ${keys}) return undefined`
}

/** Of an object whose property has been read, V8 knows the shape, and with it the prototype, for nothing. */
function objectCheck({ heedsToJSON }: Layout): string {
  return `
    if (typeof row !== 'object' || row === null || Array.isArray(row)) return undefined
    ${heedsToJSON ? `if (typeof row.toJSON === 'function') return undefined` : ''}
    if (typeof row.then === 'function') return undefined
    if (Object.getPrototypeOf(row) !== records.ordinaryPrototype) return undefined`
}

function memoryCode(index: number): string {
  return `
  var last${index}, lastField${index}, older${index}, olderField${index}
  var remembers${index} = true, news${index} = 0, rowsBefore${index} = 0`
}

function namedCellCode(layout: Layout, index: number, member: string | number): string {
  return `
    value = row[${member}]
    if (typeof value === 'string') {
      if (value === last${index}) text += lastField${index}
      else if (value === older${index}) text += olderField${index}
      else {
        ${fieldCode(layout, index)}
        text += field
        if (remembers${index}${layout.guardsFormulas ? ' && guarded === value' : ''}) { ${rememberCode(index)} }
      }
    } else ${otherValueCode(layout, index)}
    ${index === 0 ? 'if (isMisreadFirst(text)) return undefined' : ''}`
}

function keysCode({ countsKeys }: Layout): string {
  return countsKeys
    ? 'var at = 0; for (var key in row) if (key !== keys[at++]) { use.seeKeys(row); break }'
    : ''
}

/**
 * All but the first. Columns are mostly a row's keys in their order: V8 then reads each where the loop stands, without
 * looking for it. https://v8.dev/blog/fast-for-in
 */
function otherCellsCode(layout: Layout, width: number): string {
  const cell = (member: string) => `
      value = row[${member}]
      if (typeof value === 'string') {
        ${fieldCode(layout, 1)}
        text += field
      } else ${otherValueCode(layout, 1)}`
  if (typeof layout.keys === 'number') {
    return `for (var index = 1; index < ${width}; index++) { ${cell('index')} }`
  }
  return `
    var at = 0
    for (var key in row) {
      if (key !== keys[at]) {
        ${layout.countsKeys ? 'use.seeKeys(row)' : ''}
        break
      }
      if (at++ === 0) continue
      ${cell('key')}
    }
    for (at = Math.max(at, 1); at < ${width}; at++) { ${cell('keys[at]')} }`
}

function before({ delimiter }: Layout, index: number): string {
  return literal(index === 0 ? '' : delimiter)
}

/** Of all plain values only a string's text is not our own. */
function fieldCode(layout: Layout, index: number): string {
  if (!layout.guardsFormulas) return `field = ${before(layout, index)} + ofText(value)`
  return `
        var guarded = formulas.guard(value)
        if (guarded === undefined) return undefined
        field = ${before(layout, index)} + ofText(guarded)`
}

/** What is escaped is not remembered, as it is counted each time. */
function rememberCode(index: number): string {
  return `
          if (value.length <= ${longestRemembered}) {
            older${index} = last${index}
            olderField${index} = lastField${index}
            last${index} = value
            lastField${index} = field
          }
          if (++news${index} === ${newTexts}) {
            remembers${index} = rows - rowsBefore${index} >= ${2 * newTexts}
            news${index} = 0
            rowsBefore${index} = rows
            if (!remembers${index}) last${index} = lastField${index} = older${index} = olderField${index} = undefined
          }`
}

function otherValueCode(layout: Layout, index: number): string {
  const delimiter = before(layout, index)
  return `if (typeof value === 'number') text += ${index === 0 ? 'ofNumber' : 'ofDelimiterAndNumber'}(value)
    else if (value === null || value === undefined) text += ${delimiter}
    else if (value === true) text += ${delimiter} + 'true'
    else if (value === false) text += ${delimiter} + 'false'
    else {
      field = ofOther(value)
      if (field === undefined) return undefined
      text = text + ${delimiter} + field
    }`
}

function onlyCellCode({ quote }: Layout): string {
  return `if (text === '' || isEndOfData(text)) text = ${literal(quote)} + text + ${literal(quote)}`
}
