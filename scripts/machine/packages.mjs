// Debian packages that a part of Atoll needs.
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline/promises'
import { command } from './command.mjs'
import { Refusal, step } from './say.mjs'

const folders = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']

/** What shows that a package is there: a file of it. */
const evidence = {
  bubblewrap: ['bwrap'],
  e2fsprogs: ['mkfs.ext4'],
  'util-linux': ['nsenter'],
  mount: ['mount'],
  mmdebstrap: ['mmdebstrap'],
  'docker.io': ['dockerd'],
  iptables: ['iptables'],
}

const isThere = (name) => (evidence[name] ?? [name]).some((file) => folders.some((folder) => existsSync(`${folder}/${file}`)))

/** The commands that a person types to get the packages. */
export const commandsFor = (names) => {
  const sudo = process.getuid?.() === 0 ? '' : 'sudo '
  return [`${sudo}apt-get update`, `${sudo}apt-get install -y --no-install-recommends ${names.join(' ')}`]
}

async function isWanted(names) {
  const prompt = createInterface({ input: process.stdin, output: process.stderr })
  const answer = await prompt.question(`Atoll needs the packages ${names.join(', ')}. Install them with apt-get? [Y/n] `)
  prompt.close()
  return /^(y(es)?)?$/i.test(answer.trim())
}

async function apt(args) {
  return command('apt-get', args, { env: { DEBIAN_FRONTEND: 'noninteractive' } })
}

/**
 * Installs what is missing: asks first when a terminal is there, does it when root without one.
 * @param {{ install?: boolean }} [options] `install: false` refuses with the commands to type
 */
export async function ensurePackages(names, { install = true } = {}) {
  const missing = names.filter((name) => !isThere(name))
  if (missing.length === 0) return
  const refusal = new Refusal(`Missing packages: ${missing.join(', ')}. Type:\n  ${commandsFor(missing).join('\n  ')}`)
  if (!install || process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) throw refusal
  if (process.stdin.isTTY && !(await isWanted(missing))) throw refusal
  await step(`installing ${missing.join(', ')}`, async () => {
    const args = ['install', '-y', '--no-install-recommends', ...missing]
    if ((await apt(args)).status === 0) return
    // The list of packages may be old or absent; only then is it worth the time to fetch it.
    await apt(['update'])
    const { status, output } = await apt(args)
    if (status !== 0) throw new Refusal(`apt-get could not install ${missing.join(', ')}:\n${output.slice(-1500)}`)
  })
}
