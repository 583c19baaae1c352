// A socket before the engine's that can fall silent, refuse and come back, so that the engine itself need not.
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import net from 'node:net'
import { engineSocket } from './machine.ts'

export class EngineProxy {
  readonly path: string
  readonly #sockets = new Set<net.Socket>()
  #server: net.Server | undefined
  /** Called with what a client asks; false cuts the connection there. */
  lets: (text: string) => boolean = () => true

  constructor(path: string) {
    this.path = path
  }

  async open(): Promise<void> {
    const server = net.createServer((client) => this.#join(client))
    this.#server = server
    server.listen(this.path)
    await once(server, 'listening')
  }

  #join(client: net.Socket): void {
    const target = net.connect(engineSocket)
    for (const [from, to] of [
      [client, target],
      [target, client],
    ] as const) {
      this.#sockets.add(from)
      from.on('error', () => to.destroy())
      from.on('close', () => {
        this.#sockets.delete(from)
        to.destroy()
      })
    }
    client.on('data', (data) => (this.lets(data.toString('latin1')) ? target.write(data) : void this.cut()))
    target.on('data', (data) => client.write(data))
  }

  /** As if the engine were killed: connections break, and nobody listens. */
  cut(): void {
    this.#server?.close()
    this.#server = undefined
    for (const socket of this.#sockets) socket.destroy()
    rmSync(this.path, { force: true })
  }
}
