// Which ports listen in the sandbox, and raw connections to them.
import { promises } from 'node:fs'
import net, { type Socket } from 'node:net'
import { Failure } from '@atoll/protocol'
import type { Routes } from './router.ts'
import type { Upgrade, UpgradeHandler } from './server.ts'

const listening = '0A'
/** Addresses that a connection to loopback reaches, as the kernel prints them. */
const reachable = /^(0{8}|[0-9A-F]{6}7F|0{32}|0{24}01000000|0{16}FFFF0000[0-9A-F]{6}7F)$/

/** The ports in a table of /proc/net that listen where loopback reaches them. */
export function listeningPorts(table: string): number[] {
  return table
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local = '', , state]) => state === listening && reachable.test(local.split(':')[0] ?? ''))
    .map(([, local = '']) => Number.parseInt(local.split(':')[1] ?? '', 16))
}

async function readPorts(hidden: number | undefined): Promise<{ listening: number[] }> {
  // A kernel without IPv6 has no second table.
  const tables = await Promise.all(['/proc/net/tcp', '/proc/net/tcp6'].map((file) => promises.readFile(file, 'utf8').catch(() => '')))
  const ports = new Set(tables.flatMap(listeningPorts).filter((one) => one !== hidden))
  return { listening: [...ports].sort((a, b) => a - b) }
}

function dial(host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port, allowHalfOpen: true, noDelay: true })
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.off('error', reject)
      resolve(socket)
    })
  })
}

async function dialLoopback(port: number): Promise<Socket> {
  try {
    return await dial('127.0.0.1', port)
  } catch {
    // Some servers listen on IPv6 only.
    return dial('::1', port).catch((cause: unknown) => {
      throw new Failure('port.closed', `Nothing listens on port ${port} in the sandbox.`, { cause })
    })
  }
}

/** Each side may end its half and go on reading; a side that breaks takes the other one along. */
export function join(one: Socket, other: Socket): void {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    from.pipe(to)
    from.on('error', () => to.destroy())
    from.on('close', () => to.destroySoon())
  }
}

const port = /^[1-9]\d{0,4}$/

/** @throws Failure `port.closed`, `port.invalid` */
async function connectPort({ socket, head, params }: Upgrade, hidden: number | undefined): Promise<void> {
  const text = params.port ?? ''
  if (!port.test(text) || Number(text) > 65_535) throw new Failure('port.invalid', `${text} is not a port.`)
  if (Number(text) === hidden) throw new Failure('port.closed', `Port ${text} is the sandbox's way out, and no way in.`)
  const inner = await dialLoopback(Number(text))
  if (socket.destroyed) return void inner.destroy()
  socket.setTimeout(0)
  socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: tcp\r\n\r\n')
  if (head.length > 0) inner.write(head)
  join(socket, inner)
}

/** @param hidden a port that is neither told nor led to: whoever got to the gateway would spend what is the sandbox's */
export const portRoutes = (
  hidden: number | undefined,
): { readonly routes: Routes; readonly upgrades: Readonly<Record<string, UpgradeHandler>> } => ({
  routes: { 'GET /ports': () => readPorts(hidden) },
  upgrades: { 'GET /ports/{port}/connect': (upgrade) => connectPort(upgrade, hidden) },
})
