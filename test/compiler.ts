import { join, relative } from 'node:path'
import type { Test } from 'tap'
import { outcome } from './packed.ts'

const root = join(import.meta.dirname, '..')

/** What the compiler says of a text, by line, of this project's strictness. `#root` is the project's folder. */
export async function messagesOf(t: Test, text: string): Promise<Map<number, string[]>> {
  const folder = t.testdir({})
  const path = relative(folder, root)
  const settings = {
    extends: `${path}/tsconfig.json`,
    compilerOptions: { noUnusedLocals: false },
    files: ['calls.ts']
  }
  t.testdir({ 'calls.ts': text.replaceAll('#root', path), 'tsconfig.json': JSON.stringify(settings) })
  // The PATH of npm and npx names it, wherever it is installed.
  const { output } = await outcome('tsc', ['-p', '.', '--pretty', 'false'], { cwd: folder })
  const found = new Map<number, string[]>()
  let lines: string[] = []
  for (const line of output.split('\n').filter(Boolean)) {
    const [, file, number] = line.match(/^(\S+)\((\d+),\d+\): error/) ?? []
    if (number !== undefined) {
      t.equal(file, 'calls.ts', line)
      lines = found.get(Number(number)) ?? []
      found.set(Number(number), lines)
    }
    lines.push(line)
  }
  return found
}
