import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const execute = promisify(execFile)

/**
 * Opens files in LibreOffice at one separator, with "Evaluate formulas" on, and saves them as XML.
 * https://help.libreoffice.org/latest/en-US/text/shared/guide/csv_params.html
 * @param folder an empty one
 * @param separator one character
 * @returns each file's XML, in order
 */
export async function openInLibreOffice(
  folder: string,
  files: readonly Buffer[],
  separator: string
): Promise<string[]> {
  const paths = files.map((_, index) => join(folder, `${index}.csv`))
  await Promise.all(paths.map((path, index) => writeFile(path, files[index] as Buffer)))
  // The separator, the quote, UTF-8, from line 1 on; at the end "Evaluate formulas". Between: nothing is set.
  const tokens = [separator.charCodeAt(0), 34, 76, 1, '', 0, false, false, false, false, false, true]
  await execute('soffice', [
    '--headless',
    `-env:UserInstallation=file://${join(folder, 'profile')}`,
    `--infilter=Text - txt - csv (StarCalc):${tokens.join()}`,
    ...['--convert-to', 'fods', '--outdir', folder],
    ...paths
  ])
  return Promise.all(paths.map((path) => readFile(path.replace(/csv$/, 'fods'), 'utf8')))
}

/** The formulas in a sheet's XML, as LibreOffice understood them. */
export function formulasIn(xml: string): string[] {
  return Array.from(xml.matchAll(/ table:formula="([^"]*)"/g), ([, formula]) => formula as string)
}
