import { spawnSync } from 'node:child_process'

/**
 * Why a test that needs a program is skipped on one's own machine, or false where it is run. With CI=true it is always
 * run, and fails without the program: a skipped test would hide that nothing was tested.
 * @param command which fails without the program
 */
export function skipWithout(program: string, command: string, ...args: string[]): string | false {
  if (process.env.CI === 'true' || runs(command, ...args)) return false
  return `${program} is not installed: install it to run this`
}

export function runs(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0
}
