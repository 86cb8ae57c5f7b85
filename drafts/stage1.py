import sys; sys.path.insert(0,".")
import torch, time
torch.set_num_threads(1)
from facelab import recipes
from facelab.papers import facefeat_gan as ff
from facelab.adversarial import energy, rejection, r1_penalty
from facelab.evaluation import *
import os
src, steps, batch, pen, lr = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5])
cachef='.'+os.path.basename(src)
if not os.path.exists(cachef):
    m=ff.Model(ff.Config(painted=4)); c=torch.load(src,weights_only=False,map_location='cpu'); m.load_state_dict(c['model']); m.eval()
    r=recipes.RECIPES['facefeat_gan']; faces=recipes._cached(r,r.faces,0)
    with torch.no_grad():
        out=[m.features(faces[rows].image).varied for rows in torch.randperm(32000,generator=torch.Generator().manual_seed(0))[:12000].split(250)]
    torch.save([torch.cat(x) for x in zip(*out)],cachef)
f1,f2=torch.load(cachef)
m=ff.Model(ff.Config()); c=torch.load(src,weights_only=False,map_location='cpu'); m.load_state_dict(c['model']); m.train()
test=[f[:300] for f in (f1,f2)]; train=[f[300:] for f in (f1,f2)]
s=torch.linalg.svdvals(f2-f2.mean(0)); e=(s**2); print('participation dim f2 %.1f'%(e.sum()**2/(e**2).sum()), 'mean len', f2.mean(0).norm().item(), 'real vs real told %.2f'%real_or_made(f2[:300],f2[300:600]))
g=torch.Generator().manual_seed(0)
def rep(k):
    with torch.no_grad(): made=m._invented(m.noise(300,torch.Generator().manual_seed(5)))
    print(k, ' '.join(f'told f{i+1} {real_or_made(t,x):.2f} div {feature_variance(x):.2f}' for i,(t,x) in enumerate(zip(test,made))), f'{time.time()-t0:.0f}s',flush=True)
t0=time.time(); rep(0)
D=torch.optim.Adam(m.feature_discriminators.parameters(),lr=lr,betas=(.5,.99)); G=torch.optim.Adam(m.feature_generators.parameters(),lr=lr,betas=(.5,.99))
for k in range(1,steps+1):
    for o in (D,G):
        for q in o.param_groups: q['lr']=lr*0.5*(1+torch.cos(torch.tensor(3.14159*k/steps)).item())
    rows=torch.randint(len(train[0]),(batch,),generator=g); real=[t[rows] for t in train]
    with torch.no_grad(): made=m._invented(m.noise(batch,g))
    loss=0
    for i,(d,r,s_) in enumerate(zip(m.feature_discriminators,real,made)):
        loss=loss+energy(d(r))+rejection(d(s_))+(0.5 if i==0 else pen)*r1_penalty(d,r)
    D.zero_grad(); loss.backward(); D.step()
    made=m._invented(m.noise(batch,g)); loss=sum(energy(d(s_)) for d,s_ in zip(m.feature_discriminators,made))
    G.zero_grad(); loss.backward(); G.step()
    if k%500==0 or k==50: rep(k)
