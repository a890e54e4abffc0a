export { type CopyRowsOptions, copyRows } from './copy-rows.ts'
export { type CursorRows, type CursorRowsOptions, cursorRows, type TextRow } from './cursor-rows.ts'
export { type SqlStatement, sql } from './sql.ts'
