import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { temporaryFolder } from '../../../database.ts'

/** Why it cannot be had: root alone mounts, and not in every container. */
export const skipSmallDisk = canMount() ? false : 'a small disk needs the right to mount one'

function canMount(): boolean {
  return spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0
}

/** A folder on a disk of its own, of so many bytes. */
export async function smallDisk(t: Test, bytes: number): Promise<string> {
  const folder = join(await temporaryFolder(t), 'disk')
  mkdirSync(folder)
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', folder])
  t.teardown(() => void execFileSync('umount', ['--lazy', folder]))
  return folder
}
