/** The sandbox behind a request, known by the socket that it came in by. */
export interface Caller {
  readonly sandboxId: string
  readonly serviceId: number
  readonly owner: string
}
