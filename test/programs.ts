import { spawnSync } from 'node:child_process'
import Fastify from 'fastify'

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

/** Why a test is skipped with a Fastify that lacks what it needs, or false where it is run. */
export function skipBefore(version: string, need: string): string | false {
  if (Fastify().version.localeCompare(version, 'en', { numeric: true }) >= 0) return false
  return `${need}: Fastify ${version}`
}
