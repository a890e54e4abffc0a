import type { PluginOptions } from '../../../plugins/csv-export/index.ts'

export { default } from './ends.ts'

export const server = { connectionTimeout: 100 }

export const defaults: PluginOptions = { stallTimeout: 1_000 }
