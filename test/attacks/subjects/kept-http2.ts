export { default, defaults } from './kept.ts'

export const server = { http2: true }
