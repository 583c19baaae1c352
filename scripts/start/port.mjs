// Who holds the port that the operator wants.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { Refusal } from '../machine.mjs'

const host = '127.0.0.1'
const healthDeadlineMs = 3000
const longestHealth = 65_536

/** @throws Refusal that says who listens there and what to do */
export async function assertPortIsFree(port) {
  if (await isFree(port)) return
  const another = `or choose another port: npm start -- --port ${port + 1}`
  const atoll = await atollAt(port)
  const holder = holderOf(port)
  const by = holder ? ` (process ${holder.pid}, ${holder.command})` : ''
  if (atoll) {
    throw new Refusal(
      `An Atoll operator ${atoll.version} runs on port ${port} already${by}. Use it (npx atoll ls), stop it${holder ? ` (kill ${holder.pid})` : ''}, ${another}`,
    )
  }
  throw new Refusal(`Port ${port} is taken${by}. Stop what listens there, ${another}`)
}

function isFree(port) {
  return new Promise((resolve, reject) => {
    const server = net.createServer()
    server.once('error', (error) => {
      if (error.code === 'EADDRINUSE') resolve(false)
      else reject(new Refusal(`The operator cannot listen on port ${port}: ${error.message}.`))
    })
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)))
  })
}

/** Whatever listens there, it may also hang up, or take a call and say nothing. */
function atollAt(port) {
  return new Promise((resolve) => {
    const request = http.get({ host, port, path: '/health', agent: false }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk) => {
        text += chunk
        if (text.length > longestHealth) request.destroy()
      })
      response.once('end', () => resolve(versionIn(text)))
    })
    const deadline = setTimeout(() => request.destroy(), healthDeadlineMs)
    request.on('error', () => undefined) // `close` follows.
    request.once('close', () => {
      clearTimeout(deadline)
      resolve(undefined)
    })
  })
}

function versionIn(text) {
  try {
    const { runtime_backend, version } = JSON.parse(text)
    return typeof runtime_backend === 'string' ? { version: version ?? '' } : undefined
  } catch {
    return undefined // It does not speak like one of ours.
  }
}

/** The process that listens, as far as this user may see it. */
function holderOf(port) {
  const inodes = listeningSockets(port)
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    if (descriptorsOf(pid).some((target) => inodes.has(target))) return { pid, command: commandOf(pid) }
  }
  return undefined
}

function listeningSockets(port) {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const listening = '0A'
  const inodes = new Set()
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    for (const line of readText(table).split('\n').slice(1)) {
      const [, local = '', , state, , , , , , inode] = line.trim().split(/\s+/)
      if (state === listening && local.endsWith(suffix)) inodes.add(`socket:[${inode}]`)
    }
  }
  return inodes
}

function descriptorsOf(pid) {
  try {
    return readdirSync(`/proc/${pid}/fd`).map((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`)
      } catch {
        return '' // Closed in the meantime.
      }
    })
  } catch {
    return [] // It ended, or is another user's.
  }
}

const commandOf = (pid) => readText(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim().slice(0, 100)

function readText(file) {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return '' // A machine without IPv6 has no second table; a process may end while it is looked at.
  }
}
