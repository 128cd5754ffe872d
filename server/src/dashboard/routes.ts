/**
 * The operator's page. This room owns / and /app/. It holds no data of its own: the page asks the public API with a key its reader
 * pastes (or brings in the fragment, which no server sees), so it opens nothing that the key does not.
 */
import { api } from '../http/api.ts'
import { html, page } from '../http/page.ts'

const body = html`
  <h1>Fairlead</h1>
  <p class="soft">Integrations and connections of one environment, read with its API key. The key stays in this page's memory and is forgotten when you leave.</p>
  <form data-key-form>
    <label for="key">API key</label>
    <input id="key" type="password" autocomplete="off" spellcheck="false" required>
    <button>Show</button>
  </form>
  <p class="bad" data-fault role="alert" hidden></p>
  <section data-content hidden>
    <h2>Integrations</h2>
    <table><thead><tr><th>Name</th><th>Provider</th><th>Key</th></tr></thead><tbody data-integrations></tbody></table>
    <h2>Connections</h2>
    <table><thead><tr><th>Connection</th><th>Integration</th><th>End user</th><th>Health</th><th>Created</th></tr></thead><tbody data-connections></tbody></table>
    <p class="soft" data-empty hidden>No connection yet. Create a connect session with POST /connect/sessions and open its link.</p>
  </section>
  <p class="soft"><a href="/docs/">Documentation</a> · <a href="/openapi.json">OpenAPI</a></p>`

/** Text goes in by textContent alone; what an end user typed as a name stays a name. */
const script = `
const one=selector=>document.querySelector(selector);
const row=cells=>{const tr=document.createElement('tr');for(const[text,mono]of cells){const td=document.createElement('td');td.textContent=text;if(mono)td.className='mono';tr.append(td)}return tr};
async function read(path,key){
  const answer=await fetch(path,{headers:{Authorization:'Bearer '+key},referrerPolicy:'no-referrer'});
  const body=await answer.json();
  if(!answer.ok)throw new Error(body.error.message);
  return body;
}
async function show(key){
  one('[data-fault]').hidden=true;
  try{
    const[integrations,listed]=await Promise.all([read('/integrations',key),read('/connections?limit=200',key)]);
    one('[data-integrations]').replaceChildren(...integrations.data.map(i=>row([[i.display_name],[i.provider],[i.unique_key,true]])));
    one('[data-connections]').replaceChildren(...listed.connections.map(c=>row([[c.connection_id,true],[c.provider_config_key,true],[c.end_user?.display_name??c.end_user?.email??c.end_user?.id??'–'],[c.health],[new Date(c.created).toLocaleString()]])));
    one('[data-empty]').hidden=listed.connections.length>0;
    one('[data-content]').hidden=false;
  }catch(error){one('[data-fault]').textContent=error.message;one('[data-fault]').hidden=false;one('[data-content]').hidden=true}
}
one('[data-key-form]').addEventListener('submit',event=>{event.preventDefault();show(one('#key').value)});
const brought=new URLSearchParams(location.hash.slice(1)).get('key');
if(brought){history.replaceState(null,'',location.pathname);one('#key').value=brought;show(brought)}`

export function dashboardRoutes() {
  const app = api()
  app.get('/', c => c.redirect('/app/', 302))
  app.get('/app', c => c.redirect('/app/', 308))
  app.get('/app/', () => page({ title: 'Fairlead', status: 200, body, script, formAction: "'self'" }, 'wide'))
  return app
}
