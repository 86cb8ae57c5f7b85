import sys; sys.path.insert(0,".")
import torch
from facelab import show
from facelab.faces import FaceWorld
from facelab.evaluation import psnr
from facelab.papers import facefeat_gan as ff
c=torch.load(sys.argv[1],weights_only=False,map_location='cpu')['model']
m=ff.Model(ff.Config()); 
w=FaceWorld(0); tr=FaceWorld(1).sample(1200,size=64,sitting=4,still=False,yaw=(-45,45),pitch=(-12,12),roll=(-8,8)); m.prepare(tr)
sd=m.state_dict(); 
for k,v in c.items():
    if k in sd: sd[k]=v
m.load_state_dict(sd); m.eval()
x=w.sample(100,size=64,start=21000,yaw=(-45,45),pitch=(-12,12),roll=(-8,8)); x2=x.image; r=m.reconstruct(x2); f=m.frontalise(x2); s=m.features(x2); sw=m.paint(ff.Features(s.identity.roll(1,0),s.varied))
from facelab import evaluation
J=evaluation.judge(); L=J.look
print('yaw given %.1f reb %.1f front %.1f'%tuple(torch.rad2deg(L(p).pose[:,0].abs()).mean() for p in (x2,r,f)),'id own reb %.2f front %.2f'%tuple((L(p).identity*L(x2).identity).sum(1).mean() for p in (r,f)),'swap to fid %.2f to feats %.2f'%tuple((L(sw).identity*L(x2).identity.roll(k,0)).sum(1).mean() for k in (1,0)))
print(psnr(r,x2,x.face_mask).mean())
show.sheet([p for k in range(12) for p in (x2[k],r[k],f[k],sw[k])],8,titles=['given','reb','front','swap']*2,width=10).savefig('..png',dpi=90)
