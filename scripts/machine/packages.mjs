// Debian packages that a part of Atoll needs.
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline/promises'
import { guarded } from './command.mjs'
import { Refusal, step } from './say.mjs'

const folders = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']

/** What shows that a package is there: a file of it. */
const evidence = {
  bubblewrap: ['bwrap'],
  e2fsprogs: ['mkfs.ext4'],
  'util-linux': ['nsenter'],
  iproute2: ['ip'],
  mount: ['mount'],
  mmdebstrap: ['mmdebstrap'],
  'debian-archive-keyring': ['/usr/share/keyrings/debian-archive-keyring.gpg'],
  'docker.io': ['dockerd'],
  iptables: ['iptables'],
}

/** Where the operator looks for programs, too, whatever PATH says. */
const placesOf = (file) => (file.startsWith('/') ? [file] : folders.map((folder) => `${folder}/${file}`))

const isThere = (name) => (evidence[name] ?? [name]).some((file) => placesOf(file).some((place) => existsSync(place)))

/** The commands that a person types to get the packages. */
export const commandsFor = (names) => {
  const sudo = process.getuid?.() === 0 ? '' : 'sudo '
  return [`${sudo}apt-get update`, `${sudo}apt-get install -y --no-install-recommends ${names.join(' ')}`]
}

/** Ctrl-C and Ctrl-D are a no. */
async function isWanted(names) {
  const prompt = createInterface({ input: process.stdin, output: process.stderr })
  const left = new AbortController()
  prompt.once('close', () => left.abort())
  try {
    const question = `Atoll needs the packages ${names.join(', ')}. Install them with apt-get? [Y/n] `
    return /^(y(es)?)?$/i.test((await prompt.question(question, { signal: left.signal })).trim())
  } catch (error) {
    if (!left.signal.aborted) throw error
    process.stderr.write('\n')
    return false
  } finally {
    prompt.close()
  }
}

/** @param {'stop' | 'finish'} onInterrupt */
const apt = (args, onInterrupt) =>
  // On a machine that has just started, the system's own updates hold the lock for a while.
  guarded('apt-get', ['-o', 'DPkg::Lock::Timeout=300', ...args], { env: { DEBIAN_FRONTEND: 'noninteractive' }, onInterrupt })

/**
 * Those of the packages that are missing and may be installed: asks when a terminal is there, and needs no answer when root without one.
 * @param {{ install?: boolean }} [options] `install: false` refuses
 * @throws Refusal with the commands to type
 */
export async function missingPackages(names, { install = true } = {}) {
  const missing = names.filter((name) => !isThere(name))
  if (missing.length === 0) return missing
  const refusal = new Refusal(`Missing packages: ${missing.join(', ')}. Type:\n  ${commandsFor(missing).join('\n  ')}`)
  if (!install || process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) throw refusal
  if (process.stdin.isTTY && !(await isWanted(missing))) throw refusal
  return missing
}

/** What a Ctrl-C stops is the download; from then on it takes seconds, and half a package must not stay behind. */
export async function installPackages(names) {
  if (names.length === 0) return
  await step(`installing ${names.join(', ')}`, async () => {
    const install = ['install', '-y', '--no-install-recommends', ...names]
    const download = () => apt([...install, '--download-only'], 'stop')
    if ((await download()).status !== 0) {
      // The list of packages may be old or absent; only then is it worth the time to fetch it.
      await apt(['update'], 'stop')
      await download()
    }
    const { status, output } = await apt(install, 'finish')
    if (status !== 0) throw new Refusal(`apt-get could not install ${names.join(', ')}:\n${output.slice(-1500)}`)
  })
}

/** @throws Refusal as `missingPackages` */
export const ensurePackages = async (names, options) => installPackages(await missingPackages(names, options))
