import { refusal } from '../../csv-export/options/option.ts'

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** What else lies in the same place is nobody's file. */
export function isFileId(name: string): boolean {
  return uuid.test(name)
}

/**
 * For stores that make a path of it: an id may come out of a URL.
 * @throws CSV_EXPORT_INVALID_OPTION
 */
export function checkFileId(id: string): string {
  if (!isFileId(id)) throw refusal('id', 'a UUID in lower case', id)
  return id
}
