import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const execute = promisify(execFile)

/**
 * Opens files in LibreOffice at one separator, with "Evaluate formulas" on, and saves them as XML.
 * @param folder an empty one
 * @param separator one character
 * @returns each file's XML, in order
 */
export function openInLibreOffice(
  folder: string,
  files: readonly Buffer[],
  separator: string
): Promise<string[]> {
  // The separator, the quote, UTF-8, from line 1 on; at the end "Evaluate formulas". Between: nothing is set.
  const tokens = [separator.charCodeAt(0), 34, 76, 1, '', 0, false, false, false, false, false, true]
  return openWithTokens(folder, files, tokens.join())
}

/**
 * The same as an import filter's tokens say; without any, as LibreOffice thinks best.
 * https://help.libreoffice.org/latest/en-US/text/shared/guide/csv_params.html
 */
export async function openWithTokens(
  folder: string,
  files: readonly Buffer[],
  tokens?: string
): Promise<string[]> {
  const paths = files.map((_, index) => join(folder, `${index}.csv`))
  await Promise.all(paths.map((path, index) => writeFile(path, files[index] as Buffer)))
  await execute('soffice', [
    '--headless',
    `-env:UserInstallation=file://${join(folder, 'profile')}`,
    ...(tokens === undefined ? [] : [`--infilter=Text - txt - csv (StarCalc):${tokens}`]),
    ...['--convert-to', 'fods', '--outdir', folder],
    ...paths
  ])
  return Promise.all(paths.map((path) => readFile(path.replace(/csv$/, 'fods'), 'utf8')))
}

/** The formulas in a sheet's XML, as LibreOffice understood them. */
export function formulasIn(xml: string): string[] {
  return Array.from(xml.matchAll(/ table:formula="([^"]*)"/g), ([, formula]) => formula as string)
}

/** The cells in a sheet's XML that are not empty: numbers as numbers. */
export function cellsIn(xml: string): (string | number)[] {
  const cells = xml.matchAll(
    /<table:table-cell[^>]*?office:value-type="(\w+)"(?: office:value="([^"]*)")?[^>]*>(.*?)<\/table:table-cell>/gs
  )
  return Array.from(cells, ([, type, value, content = '']) =>
    type === 'float' ? Number(value) : content.replaceAll(/\s*<[^>]*>\s*/g, '')
  )
}
