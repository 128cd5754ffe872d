/**
 * `@fairlead/browser`: lets the person in front of the page connect an account. Your backend makes the session and hands over its token;
 * the rest happens here, and the promise always settles: by what the window says, by what the server says, or because the session ended.
 *
 *   connect.ts    openConnect: Connect in a frame, in a popup or instead of this page
 *   auth.ts       auth: straight to one provider's sign-in, without Connect
 *   results.ts    what the server knows of this session. Asked again and again, so nothing but plain HTTP is needed
 */
export { type AuthOptions, auth } from './auth.ts'
export { type ConnectEvent, type ConnectOptions, connectReturned, openConnect } from './connect.ts'
export type { FailureCode, Outcome } from './results.ts'
