/** What is wrong with a file, and on which line. */
export class CargoFileError extends Error {
  statusCode = 400
  code = 'CARGO_FILE_INVALID'
}
